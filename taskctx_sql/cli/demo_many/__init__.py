"""Many tasks of a company that does not exist, for a first look at reports and pages."""

from taskctx_sql.cli.demo_many.script import MARK
from taskctx_sql.cli.demo_many.write import DAYS, TASKS, Written, write_many
