"""Two replicas, a client and a host in network namespaces, with the real daemon between them."""
