"""What a database may have besides the tables: row-level security, a search index, daily sums.

They are no revisions: each is recognized by being there, and each upgrade sets right what there is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import sqlalchemy as sa

from taskctx_sql.sql import engines
from taskctx_sql.sql.schema import citus, daily_sums, row_security, search_index


class OptIns(NamedTuple):
    """What is to be there: True for yes, False for no, and None to leave it as it is."""

    row_level_security: bool | None = None
    search: bool | None = None
    sums: bool | None = None

    @property
    def leave_all(self) -> bool:
        """Whether everything is left as it is."""
        return self == OptIns()

    def check_possible(self, connection: sa.Connection) -> None:
        """Raise a SchemaError if the database cannot have what is wanted."""
        if self.row_level_security:
            row_security.check_possible(connection)
        distributed = citus.is_installed(connection)
        if self.search:
            search_index.check_possible(connection, distributed=distributed)
        if self.sums:
            daily_sums.check_possible(connection, distributed=distributed)

    def changes(self, connection: sa.Connection, schema: str | None, *, downgraded: bool) -> Iterator[str]:
        """Yield the statements that create, drop or set right the search index and the daily sums.

        Under row-level security, accounts that see one user at a time see of them what they see of the rows.
        """
        guarded = self.row_level_security
        for part, wanted in ((search_index, self.search), (daily_sums, self.sums)):
            there = part.is_there(connection, schema)
            yield from part.changes(connection, schema, wanted, downgraded=downgraded)
            stays = not downgraded and wanted is not False and (there or wanted)
            if stays and not engines.is_sqlite(connection) and not (there and guarded is None):
                yield from part.guards(guarded=row_security.is_on(connection, schema) if guarded is None else guarded)
