"""What is measured over time, and the alerts made from it.

    metrics    what there is to measure, of what
    flow       measured from the tick log and the bar store
    cluster    measured from Flink
    machine    measured from the processes and the disk
    history    what was measured, kept and thinned out
    outages    tells from it why bars are missing
    rules      when something is worth an alert
    judge      holds what was seen against the rules
    standing   says when that becomes an alert, and when the alert is over
    alerts     the alerts themselves
    delivery   sees to it that they arrive at the webhook
    prometheus exports the newest readings

watch.py does all this every few seconds, inside the controller but apart from its other work.
"""
