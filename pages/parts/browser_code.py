"""The code that runs in the browser, from the files it is kept in."""

from control.home import REPO_ROOT


def browser_code(*names: str) -> str:
    """Return these files of charts/browser as one script or style sheet, in this order."""
    return "\n".join((REPO_ROOT / "charts" / "browser" / name).read_text("utf-8") for name in names)
