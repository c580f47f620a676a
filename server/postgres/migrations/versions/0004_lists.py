"""0004 lists: an index for every filter and order of a list"""

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"

# A list is a range of one of these, in both of its orders: the position of a page costs nothing.
INDEXES = {
    "participants_created_at": "participants (organization_id, created_at, participant_id)",
    "participants_status_created_at": "participants (organization_id, status, created_at, participant_id)",
    "participants_status_external_id": "participants (organization_id, status, external_id)",
    "participants_email_created_at": "participants (organization_id, email, created_at, participant_id)"
    " WHERE email IS NOT NULL",
    "participants_email_external_id": "participants (organization_id, email, external_id) WHERE email IS NOT NULL",
    "participant_labels_external_id": "participant_labels (organization_id, label, external_id)",
}
# How many participants are locked at once while they are labelled.
BATCH = 1_000


def upgrade() -> None:
    _run("0004_lists.sql")
    with op.get_context().autocommit_block():
        for name, columns in INDEXES.items():
            _create_index(name, columns)
        _label_all()
        _run("0004_statistics.sql")


def _run(name: str) -> None:
    op.get_bind().exec_driver_sql((Path(__file__).parent / name).read_text())


def _create_index(name: str, columns: str) -> None:
    """Creates an index while others write. What an interrupted attempt left is no index, and is created anew."""
    execute = op.get_bind().exec_driver_sql
    left = execute("SELECT FROM pg_index WHERE indexrelid = to_regclass(%s) AND NOT indisvalid", (name,)).fetchone()
    if left is not None:
        execute(f"DROP INDEX CONCURRENTLY {name}")
    execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {columns}")


def _label_all() -> None:
    last = ("00000000-0000-0000-0000-000000000000",) * 2
    while last[0] is not None:
        last = op.get_bind().exec_driver_sql("SELECT * FROM label_next(%s, %s, %s)", (*last, BATCH)).one()
    op.get_bind().exec_driver_sql("DROP FUNCTION label_next")
