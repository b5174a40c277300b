#!/usr/bin/env bash
# A browser that plays H.264 and AAC, for the test that plays every proxy to its end.
# Usage: deploy/browser.sh install    installs one, unless it is there
#        deploy/browser.sh path       prints its name: CASELOCK_TEST_BROWSER, Chromium or Chrome, whichever is there
set -Eeuo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/lib.sh
source "$here/lib.sh"

find_browser() {
  local name
  for name in ${CASELOCK_TEST_BROWSER:-} chromium google-chrome-stable google-chrome; do
    if command -v -- "$name"; then return 0; fi
  done
  return 1
}

install() {
  ! find_browser >/dev/null || return 0
  # Ubuntu's own package is a stub that wants snap, which containers lack.
  if grep -qi '^ID=ubuntu' /etc/os-release; then
    local package
    package=$(mktemp --suffix=.deb)
    say "going to install Chrome (dl.google.com)"
    curl -fsSL -o "$package" https://dl.google.com/linux/direct/google-chrome-stable_current_amd64.deb
    chmod 644 "$package"
    debian_packages "$package"
    rm -f -- "$package"
  else
    debian_packages chromium
  fi
  find_browser >/dev/null || die "no browser was installed: name one in CASELOCK_TEST_BROWSER"
}

case ${1:-} in
  install) install ;;
  path) find_browser || die "no browser: run deploy/browser.sh install" ;;
  *) die "usage: deploy/browser.sh install|path" ;;
esac
