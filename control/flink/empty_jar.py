"""A jar with nothing in it, for the places where Flink insists on one."""

import io
import zipfile


def empty_jar() -> bytes:
    """Return a valid jar without classes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n\n")
    return content.getvalue()
