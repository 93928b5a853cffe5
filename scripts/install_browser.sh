#!/bin/sh
# Chromium and a Korean font for the browser tests: installed from Debian when root may, else named.
if command -v chromium >/dev/null 2>&1; then
  echo "browser: $(chromium --version 2>/dev/null)"
elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "browser: installing chromium and fonts-noto-cjk ..."
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium fonts-noto-cjk; } >/dev/null 2>&1 ||
    echo "browser: apt could not install chromium; browser tests will be skipped by name"
else
  echo "browser: no chromium; browser tests will be skipped by name"
fi
