-- Run once, by the image of PostgreSQL, in a new data volume. Three roles: the owner migrates, the server's role owns nothing, Keycloak has a
-- database of its own. The passwords come from the files of compose.yaml.
\set owner_password `cat /run/secrets/postgres_owner_password`
\set server_password `cat /run/secrets/postgres_server_password`
\set keycloak_password `cat /run/secrets/postgres_keycloak_password`
CREATE ROLE nworkflow_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE nworkflow LOGIN PASSWORD :'server_password';
CREATE ROLE keycloak LOGIN PASSWORD :'keycloak_password';
CREATE DATABASE nworkflow OWNER nworkflow_owner;
CREATE DATABASE keycloak OWNER keycloak;
REVOKE ALL ON DATABASE nworkflow, keycloak FROM PUBLIC;
GRANT CONNECT ON DATABASE nworkflow TO nworkflow;
