"""
Documents for the tests: small files of every kind, made on the spot.
"""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docx
from pypdf import PdfWriter

from outlast import testing
from outlast.store.database import Store

MARKDOWN = """\
# Handbook

Welcome to the handbook.

## Leave

Employees have 27 days of leave. They ask
their manager first.

- Ask early.
- Ask in writing.

```
# not a heading
leave --days 3
```
"""

HTML = """\
<html><head><title>Depots</title><style>p {}</style></head><body>
<div class="navheader"><a href="/">Home page</a></div>
<h1>Depots</h1>
<p>
  The depot has <b>12</b> doors &amp; 4
  cold rooms.</p>
<table><tr><th>Depot</th><th>Vans</th></tr>
<tr><td>Harle Quay</td><td>31</td></tr></table>
<dl><dt>port</dt><dd>Listens on 5432.</dd></dl>
<script>alert("x")</script>
</body></html>
"""


def pdf(encrypted: bool = False, text: str = "") -> bytes:
    """
    A PDF of one page that says *text*, in Helvetica.
    """
    if text:
        return _page_that_says(text)
    writer = PdfWriter()
    writer.add_blank_page(200, 200)
    if encrypted:
        writer.encrypt("secret")
    return _bytes(writer)


def _bytes(writer: PdfWriter) -> bytes:
    made = io.BytesIO()
    writer.write(made)
    return made.getvalue()


def _page_that_says(text: str) -> bytes:
    stream = f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 400 200] /Contents 4 0 R"
        b" /Resources << /Font << /F1 << /Type /Font /Subtype /Type1"
        b" /BaseFont /Helvetica >> >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
    ]
    body, starts = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        starts.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % start for start in starts)
    head = b"xref\n0 5\n0000000000 65535 f \n" + table
    tail = b"trailer\n<< /Size 5 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % len(body)
    return body + head + tail


def word() -> bytes:
    """
    A Word file with a heading, a paragraph and a table.
    """
    document = docx.Document()
    document.add_heading("Yard rules", 1)
    document.add_paragraph("The speed limit is 10 kilometres per hour.")
    row = document.add_table(rows=1, cols=2).rows[0]
    row.cells[0].text, row.cells[1].text = "Gate", "closed at 22:30"
    made = io.BytesIO()
    document.save(made)
    return made.getvalue()


def bomb(megabytes: int) -> bytes:
    """
    A small zip file that unpacks to *megabytes*.
    """
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b" " * (megabytes * 1024 * 1024))
    return made.getvalue()


def folder_of(root: Path, files: dict[str, str]) -> Path:
    """
    Write *files*, by their path below *root*.
    """
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@dataclass
class Trials:
    """
    Runs of agents by `outlast.testing.run`, with a store that one leaves to the next.
    """

    store: Store | None = None

    async def run(self, *what: Any, **more: Any) -> testing.AgentRun:
        return await testing.run(*what, **more, store=self.store)
