"""HTTP in and out: the embedded server and its protocol, the pooled client, message helpers."""
