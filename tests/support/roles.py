"""Helpers of test_roles.py that other tests use too."""

from barmill.audit.roles import Permission

# What each page is called, and what it takes to see it.
PAGES = {
    "overview": ("Overview", Permission.VIEW_PRICES),
    "chart": ("Chart", Permission.VIEW_PRICES),
    "frames": ("Frames", Permission.VIEW_PRICES),
    "study": ("Study", Permission.VIEW_PRICES),
    "compare": ("Compare", Permission.VIEW_PRICES),
    "jobs": ("Jobs", Permission.VIEW_OPERATIONS),
    "monitoring": ("Monitoring", Permission.VIEW_OPERATIONS),
    "feeds": ("Feeds", Permission.VIEW_OPERATIONS),
    "quality": ("Data quality", Permission.VIEW_OPERATIONS),
    "instruments": ("Instruments", Permission.MANAGE_INSTRUMENTS),
    "keys": ("API keys", Permission.MANAGE_KEYS),
    "alerts": ("Alerts", Permission.MANAGE_ALERTS),
    "accounts": ("Accounts", Permission.MANAGE_ACCOUNTS),
    "audit": ("Audit", Permission.READ_AUDIT),
    "account": ("My account", Permission.VIEW_PRICES),
}
