# The server as an image: a build stage with the toolchain, and a last stage with the binary, the C library and the certificates of authorities.
# No shell and no package manager is in it. It runs as a user without a name, and needs no writable file system but /data, and that only embedded.
#
#   docker build -t nworkflow-state .
#   docker run --rm --read-only nworkflow-state help

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build

# The dependencies first, with nothing of the server but its list of them: this layer stays until that list changes.
COPY Cargo.toml Cargo.lock build.rs ./
RUN mkdir src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && cargo build --release --locked --bin nworkflow-state \
    && rm -r src

COPY src src
COPY migrations migrations
COPY config/default.toml config/default.toml
# Newer than what was built above, whatever times the files had.
RUN find src -name '*.rs' -exec touch {} + \
    && cargo build --release --locked --bin nworkflow-state \
    && mkdir /data

# Debian without a distribution: the binary is linked with the C library, which is why it is not the static variant. It has no versions: the tag
# moves to each new build, and with it come the security updates of the C library and the certificates, without a change here. Whoever wants to
# know what is built pins a digest instead (FROM ...@sha256:...), and renews it for each update.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /build/target/release/nworkflow-state /usr/local/bin/nworkflow-state
COPY --from=build --chown=65532:65532 /data /data
# The C library's allocator gives large blocks (bodies of megabytes) back to the system at once: else it learns from the first of them to keep them.
ENV NWORKFLOW__DATA_DIR=/data \
    NWORKFLOW__SERVER__LISTEN=0.0.0.0:8080 \
    NWORKFLOW__LOG__FORMAT=json \
    MALLOC_MMAP_THRESHOLD_=1048576 \
    MALLOC_TRIM_THRESHOLD_=2097152
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 CMD ["/usr/local/bin/nworkflow-state", "health"]
ENTRYPOINT ["/usr/local/bin/nworkflow-state"]
CMD ["serve"]
