-- Three databases, each with an owner of its own, none of them a superuser.
-- PostgreSQL runs this once, when its data folder is new.

\getenv temporal POSTGRES_TEMPORAL_PASSWORD
\getenv outlast POSTGRES_OUTLAST_PASSWORD

CREATE ROLE temporal LOGIN PASSWORD :'temporal';
CREATE ROLE temporal_visibility LOGIN PASSWORD :'temporal';
CREATE ROLE outlast LOGIN PASSWORD :'outlast';

CREATE DATABASE temporal OWNER temporal;
CREATE DATABASE temporal_visibility OWNER temporal_visibility;
CREATE DATABASE outlast OWNER outlast;

REVOKE CONNECT ON DATABASE temporal, temporal_visibility, outlast FROM PUBLIC;
