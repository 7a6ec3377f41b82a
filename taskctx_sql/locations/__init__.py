"""URLs as users write them, folders and files."""

from taskctx_sql.locations.addresses import (
    anchored,
    file_address,
    has_secret,
    hidden,
    is_address,
    is_json_address,
    json_address,
    json_folder,
    missing_file,
    plain_folder,
    refuse_invisible,
    shown_path,
    without_secrets,
)
from taskctx_sql.locations.command_line import command_line_address
from taskctx_sql.locations.folders import (
    LOCK_SECONDS,
    Patience,
    StillHeldError,
    UnknownMoveError,
    check_file,
    folder_lock,
    identity,
    make_folder,
    move,
    sync_folder,
)
from taskctx_sql.locations.schemes import BUILT_IN, installed_schemes, other_scheme
