"""Jobs: their specs, desired states and runs, and the reconciler that makes the cluster match the desired states."""
