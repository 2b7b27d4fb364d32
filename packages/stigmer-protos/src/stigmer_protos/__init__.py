"""The Stigmer API contract: typed messages, service table and descriptor set.

`stigmer_protos.descriptors` is the compiled contract and the tables read from it. Every other module holds
the typed (betterproto2) messages of one part of the API, and is imported only when it is asked for:

    from stigmer_protos import agent, workflow
"""
