"""A hook of MkDocs: the search finds the page of a task before the names of the reference.

`tools/site/search.js` asks the built search, and fails if a word no longer finds its page.
"""

from __future__ import annotations

from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files

# People search with these words, and they are not in the title of the page that answers. A word here counts more than
# any title. So it must be rare, and no common word may be its beginning: a search for "per" finds "performance".
WORDS = {
    "figures.md": ["fast", "speed", "benchmark"],
    "filters.md": ["DKIM", "rspamd", "spam", "virus", "milter"],
    "how-to/many-messages.md": ["bulk", "newsletter"],
    "how-to/rate-limits.md": ["quota"],
    "how-to/refused.md": ["bare LF", "bare CR", "550 5.5.2", "rejected"],
    "how-to/smart-host.md": ["relay"],
    "how-to/threads.md": ["blocking", "synchronous"],
    "testing.md": ["pytest", "fixture"],
}
# A search hit in a page below counts this much. Everywhere else it counts 1.
LESS = {"reference/": 0.2, "project/": 0.2, "rules.md": 0.5}


def on_files(files: Files, **_: Any) -> Files:
    """Fails if a page has another name now."""
    if missing := [name for name in WORDS if files.get_file_from_path(name) is None]:
        raise PluginError(f"tools/site/search.py has words for {', '.join(missing)}, which is no page")
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Gives the page its words and its weight. The plugin `search` reads both from the page's settings."""
    source = page.file.src_uri
    if words := WORDS.get(source):
        page.meta["tags"] = words
    for start, weight in LESS.items():
        if source.startswith(start):
            page.meta["search"] = {"boost": weight}
    return markdown
