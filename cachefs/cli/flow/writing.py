"""Documents as YAML that a person can read: keys in their order, and texts of several lines as such."""

from typing import Any


def to_yaml(document: Any) -> str:  # Any: a JSON document
    """Return a document as YAML."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """With texts of several lines as they are."""

    def text(dumper: Any, value: str) -> Any:  # Any: yaml's own
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    written: str = yaml.dump(
        document, Dumper=Dumper, sort_keys=False, width=110, allow_unicode=True
    )
    return written
