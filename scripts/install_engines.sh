#!/bin/sh
# What Debian has of the real engines: PostgreSQL, Redis, Prometheus, Alertmanager, Java for Kafka and Spark.
# Only root on a Debian-like machine can install; elsewhere their tests are skipped by name.
set -eu

wanted=""
for pair in redis-server:redis-server prometheus:prometheus \
  prometheus-alertmanager:prometheus-alertmanager java:default-jre-headless; do
  command -v "${pair%%:*}" >/dev/null 2>&1 || wanted="$wanted ${pair##*:}"
done
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null 2>&1 || wanted="$wanted postgresql"
if [ -z "$wanted" ]; then
  exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "engines: left out, only root on Debian can install them; missing:$wanted"
  exit 0
fi
# the packages' own services are not started: the stack and the tests start what they need
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
  trap 'rm -f "$policy"' EXIT
fi
echo "engines: installing$wanted ..."
# shellcheck disable=SC2086 # several packages are meant
{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $wanted; } >/dev/null 2>&1 ||
  echo "engines: apt could not install all of$wanted; their tests will be skipped by name"
