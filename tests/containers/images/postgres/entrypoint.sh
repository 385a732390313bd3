#!/bin/sh
# Makes the cluster in a new volume as the official image does: a superuser with
# POSTGRES_PASSWORD, then the scripts of initdb.d, while only the socket listens.
set -eu
export PGDATA=/var/lib/postgresql/data

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    (umask 077; printf %s "$POSTGRES_PASSWORD" >/tmp/password)
    initdb --encoding=UTF8 --username=postgres --pwfile=/tmp/password \
        --auth-local=trust --auth-host=scram-sha-256
    rm /tmp/password
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    pg_ctl --wait --options="-c listen_addresses=''" start
    for script in /docker-entrypoint-initdb.d/*.sql; do
        psql -v ON_ERROR_STOP=1 --no-psqlrc --username=postgres --file="$script"
    done
    pg_ctl --wait --mode=fast stop
fi
exec "$@" -c "listen_addresses=*"
