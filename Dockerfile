# Builds the service and puts the one binary into a small image.
#
#   docker build -t lockstream .
#   docker run -p 127.0.0.1:8000:8000 -v lockstream-data:/data lockstream

FROM rust:1.95-bookworm AS build
WORKDIR /build
# What Cargo needs and nothing else, so that a change of the documents rebuilds nothing.
COPY Cargo.toml Cargo.lock ./
COPY migrations ./migrations
COPY src ./src
# Kept between builds: downloaded crates and compiled dependencies. The binary has to leave the cache.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin lockstream \
    && cp target/release/lockstream /usr/local/bin/lockstream \
    && strip /usr/local/bin/lockstream
# An empty folder to copy, because the final image has no shell to make one.
RUN mkdir /data

# glibc, libgcc and certificates; no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /usr/local/bin/lockstream /usr/local/bin/lockstream
# A new volume takes over the owner of the folder that it covers.
COPY --from=build --chown=nonroot:nonroot /data /data
ENV LOCKSTREAM_ADDR=0.0.0.0:8000 \
    LOCKSTREAM_DATA_DIR=/data \
    LOCKSTREAM_LOG_FORMAT=json
USER nonroot
# A relative DATABASE_URL, and a file .env, start here.
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
# The start period covers the recovery of a long log; a failure within it counts for nothing.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["/usr/local/bin/lockstream", "health"]
ENTRYPOINT ["/usr/local/bin/lockstream"]
