"""From a Python file to a Knative service: a project, its image, its manifests. ``cli/`` has a verb for each.

``scaffold.py`` makes a project of the template, ``inspection.py`` tells what a function holds, ``images.py`` which
command builds it, ``manifests.py`` what Kubernetes is to be told of it.
"""
