"""The control plane, room by room.

    machine      the processes of a home, their ports and their state
    flink        the cluster and its REST API
    jobs         what jobs there are, what they should do, and the reconciler that sees to it
    keys         the encrypted key store
    people       accounts, roles, and who may do what
    instruments  which instruments of a provider are wanted
    quality      whether every tick read is accounted for, and bars compared with a recomputation
    monitor      what is measured over time, and the alerts made from it

database.py, actions.py and audit.py are how every room changes something: authorised, recorded, in one transaction.
"""
