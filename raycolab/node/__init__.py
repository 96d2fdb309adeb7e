"""A node: the long-lived processes on one machine, and what their clients use to reach them.

launch       what a machine gives, and starting its node's supervisor under a guard
supervisor   the supervisor's process, whatever its role
head         the head: hub, provider, Ray's head, the engine, and the cluster's status
joiner       a joiner: the tunnel's agent, and Ray while it is a node
mesh_watch   the head's side of every joiner's life
messages     what head and joiners say to each other
ray_command  the arguments and environment of Ray
ray_process  Ray's processes as one thing
lifeline     no child outlives its parent
api          what clients and the engine say to a head
rpc          the socket over which they say it
data_dir     what a head keeps on disk
snapshots    the child process that keeps and restores snapshots
allowance    the month's bytes beside what the provider gives
versions     what must agree across a cluster
"""

__all__: list[str] = []
