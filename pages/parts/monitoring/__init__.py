"""Parts of the Monitoring and Alerts pages."""
