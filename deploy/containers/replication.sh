#!/bin/sh
# Lets the process `backup` stream from this server. Run once by the image of Postgres, when it makes the cluster.
echo "host replication all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
