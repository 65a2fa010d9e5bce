"""Measurements over time, and the alerts derived from them.

metrics       every metric, its unit and its meaning
measurements  measurements of Flink, of the tick log and of the bar store
watch         measurements of processes and disk; runs all steps every few seconds in the controller
history       stored measurements, downsampled with age
outages       the jobs to monitor, and the reasons for missing bars
rules         the alert rules
judge         comparison of observations with the rules
alerts        the stored alerts: when a finding becomes one, and when it is cleared
delivery      the webhook's address, and the queue of alerts for it
sender        posts queued alerts to the webhook
prometheus    export of the newest readings
"""
