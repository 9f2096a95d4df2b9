"""On PostgreSQL, experiments_trace becomes a table of partitions by experiment; other databases stay as they are.

At run time, experiments/services/partitions.py makes and drops the partitions; the names here are those that it uses.
The way back drops all partitions in one transaction: beyond some 600 experiments it needs a larger
max_locks_per_transaction, and changes nothing without.
"""

from django.db import migrations

PARTITIONED = """
ALTER TABLE experiments_trace RENAME TO experiments_trace_whole;
ALTER TABLE experiments_trace_whole DROP CONSTRAINT experiments_trace_pkey;
CREATE TABLE experiments_trace (
    LIKE experiments_trace_whole INCLUDING CONSTRAINTS,
    CONSTRAINT experiments_trace_pkey PRIMARY KEY (id, experiment_id)
) PARTITION BY LIST (experiment_id);
DO $$
DECLARE
    experiment text;
BEGIN
    FOR experiment IN
        SELECT id FROM experiments_experiment UNION SELECT DISTINCT experiment_id FROM experiments_trace_whole
    LOOP
        EXECUTE format(
            'CREATE TABLE %I PARTITION OF experiments_trace FOR VALUES IN (%L)',
            'experiments_trace_' || experiment, experiment
        );
    END LOOP;
END $$;
INSERT INTO experiments_trace SELECT * FROM experiments_trace_whole;
DROP TABLE experiments_trace_whole;
"""


def make_partitions(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(PARTITIONED, params=None)


def make_one_table(apps, schema_editor):
    if schema_editor.connection.vendor != "postgresql":
        return
    schema_editor.execute("ALTER TABLE experiments_trace RENAME TO experiments_trace_partitioned")
    schema_editor.execute("ALTER INDEX experiments_trace_pkey RENAME TO experiments_trace_partitioned_pkey")
    schema_editor.create_model(apps.get_model("experiments", "Trace"))
    schema_editor.execute("INSERT INTO experiments_trace SELECT * FROM experiments_trace_partitioned")
    schema_editor.execute("DROP TABLE experiments_trace_partitioned")


class Migration(migrations.Migration):

    dependencies = [("experiments", "0001_initial")]

    operations = [migrations.RunPython(make_partitions, make_one_table)]
