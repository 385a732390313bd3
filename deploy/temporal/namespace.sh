#!/bin/sh
# Makes the namespace and our search attributes where they are missing.
# Where: TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE, which the CLI reads by itself.
set -eu

# A namespace that was just made is not known everywhere for some seconds.
patiently() {
    tries=30
    until "$@"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 1
    done
}

there() {
    temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1
}

make() {
    there || temporal operator namespace create \
        --namespace "$TEMPORAL_NAMESPACE" --retention "$TEMPORAL_RETENTION"
}

tagged() { # NAME, TYPE
    temporal operator search-attribute list | grep -qw "$1" ||
        temporal operator search-attribute create --name "$1" --type "$2"
}

patiently make
patiently tagged OutlastStatus Keyword
patiently tagged OutlastTenant Keyword
