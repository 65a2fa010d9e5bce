"""Jobs by intent: specs, runs, and the reconciler between what is wanted and what is."""
