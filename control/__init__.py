"""The control plane: the processes that run feeds and Flink jobs, and the checks of their results.

flink        the cluster, its settings and its REST API
jobs         job specs, job state, and the reconciler that makes the jobs on the cluster match them
freshness    whether the bars shown are up to date
monitoring   measurements over time, and the alerts derived from them
processes    the supervised processes of a home
system       the readiness of the processes, and the overall state of a home
kafka        the local broker and the Java libraries for Kafka
quality      counts of all ticks read, and the comparison of bars with a recomputation
retention    how long bars are kept, the removal of expired bars, and the compression of old ones
controller   the controller process
ingest       the ingest process
"""
