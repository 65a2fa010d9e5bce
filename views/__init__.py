"""The data of pages and of the routes for bars, computed from the stores; without Streamlit."""
