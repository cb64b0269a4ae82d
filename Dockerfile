# The server in a small image: `docker build -t headwater:0.1.0 .`
# Data is in /var/lib/headwater; the user (10001) is nobody's and needs write access there alone.

FROM rust:1.95.0-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin headwater \
    && install -D --mode=755 target/release/headwater /out/headwater

# Whether the server is ready, with what the small image has: no curl, but a shell.
COPY --chmod=755 <<"SCRIPT" /out/headwater-ready
#!/bin/bash
exec 3<>"/dev/tcp/127.0.0.1/${1:-8080}" || exit 1
printf 'GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
read -r _version status _reason <&3
[[ $status == 200 ]]
SCRIPT

FROM debian:12.13-slim
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/ /usr/local/bin/
RUN install --directory --owner=10001 --group=10001 --mode=700 /var/lib/headwater
USER 10001:10001
WORKDIR /var/lib/headwater
ENV HEADWATER__DATA_DIR=/var/lib/headwater
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --retries=6 --start-period=60s CMD ["headwater-ready"]
ENTRYPOINT ["headwater"]
CMD ["up"]
