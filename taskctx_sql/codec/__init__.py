"""Values to JSON text, and back."""

from taskctx_sql.codec.foreign_values import is_same, shown, text_of
from taskctx_sql.codec.json_text import (
    decode,
    decode_all,
    decode_untagged,
    encode,
    encode_plain,
    may_have_tags,
    read_file_text,
    read_file_value,
    to_file_tree,
)
from taskctx_sql.concurrency import with_fresh_stack
