"""Ids of a claimed job, for logs and spans."""

from jobfn.database.records import GraphNode, Job


def test_ids_of_a_graph_node_are_those_of_the_job_its_organization_and_the_node() -> None:
    ids = {"task": "add", "job": 7, "attempt": 2, "worker": "worker-0", "tenant": None}
    assert Job(7, "add", "{}", 2).ids("worker-0") == ids
    job = Job(7, "add", "{}", 2, organization_id="7d44", node=GraphNode("9a7b", "add_node"))
    assert job.ids("worker-0") == ids | {"organization": "7d44", "execution": "9a7b", "node": "add_node"}
