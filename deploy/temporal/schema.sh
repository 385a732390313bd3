#!/bin/sh
# Brings Temporal's two databases to the schema of this image; run again it changes
# nothing. Each database is owned by the role of its name.
set -eu

bring_up() { # DATABASE, FOLDER OF ITS SCHEMA
    tool="temporal-sql-tool --plugin postgres12 --ep postgres --port 5432 --user $1 --db $1"
    $tool setup-schema --version 0.0 # the tables that hold the version, if there are none
    $tool update-schema --schema-dir "/etc/temporal/schema/postgresql/v12/$2/versioned"
}

bring_up temporal temporal
bring_up temporal_visibility visibility
