"""From a Python file to a Knative service: project, image, manifests. ``cli/`` has a command for each.

``scaffold.py`` creates a project from the template, ``inspection.py`` lists the tasks of a function, ``images.py``
chooses the image builder, ``manifests.py`` generates Kubernetes manifests.
"""
