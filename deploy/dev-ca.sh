#!/usr/bin/env bash
# A development CA, certificates and a receipt key, for tests and demos only: whoever can read DIR can be any bureau.
#
#   dev-ca.sh DIR [BUREAU…] [operator:NAME…]    (default: demo)
#
# Makes what is missing in DIR and keeps what is there; so a later call adds bureaus to the same CA:
#   ca.pem, ca.key                         the CA (P-256)
#   server.pem, server.key                 the gateway: localhost, 127.0.0.1, spiffe://caselock.test/service/gateway, and the names in
#                                          CASELOCK_CA_NAMES (DNS:NAME,IP:ADDRESS…)
#   BUREAU.pem, BUREAU.key                 a bureau's client: spiffe://caselock.test/bureau/BUREAU
#   operator-NAME.pem, operator-NAME.key   an operator's client: spiffe://caselock.test/operator/NAME
#   receipt-key.pem, receipt-key.pub.pem   the key that receipts are signed with (Ed25519), and its public key
# Keys are PKCS#8 PEM, readable by their owner only. Certificates are valid for one year.

set -Eeuo pipefail
export LC_ALL=C
umask 077

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }

(($# > 0)) || { sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
dir=$1
shift
(($# > 0)) || set -- demo
for bureau; do
  [[ ! $bureau =~ ^operator:[a-z0-9-]{1,63}$ ]] || continue
  [[ $bureau =~ ^[a-z0-9-]{1,63}$ ]] || die "not a bureau id: '$bureau' (1 to 63 of a-z, 0-9 and -)"
  case $bureau in
    ca | server | receipt-key | operator-*) die "'$bureau' can't be a bureau's id here: its files are the CA's own" ;;
  esac
done

command -v openssl >/dev/null || die "this needs openssl"
mkdir -p -- "$dir"
exec 9>"$dir/.lock"
flock 9
temp=$(mktemp -d -- "$dir/.new.XXXXXX")
trap 'rm -rf -- "$temp"' EXIT

# request NAME COMMON_NAME: a P-256 key and a certificate request, in $temp.
request() {
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$temp/$1.key"
  openssl req -new -config <(printf '[req]\ndistinguished_name=dn\n[dn]\n') -subj "/O=Caselock development/CN=$2" \
    -key "$temp/$1.key" -out "$temp/$1.csr"
}

# certify NAME EXTENSIONS SIGNER…: a certificate from the request, for a year, with a random serial number.
certify() {
  local name=$1 extensions=$2
  shift 2
  openssl x509 -req -in "$temp/$name.csr" -days 365 -sha256 -set_serial "0x4$(openssl rand -hex 15)" \
    -extfile <(printf '%s\n' "$extensions") -out "$temp/$name.pem" "$@" 2>"$temp/errors" ||
    { cat "$temp/errors" >&2; die "openssl could not make $name.pem"; }
  chmod 644 "$temp/$name.pem"
  mv -- "$temp/$name.key" "$dir/$name.key" # the certificate last: where it is, its key is
  mv -- "$temp/$name.pem" "$dir/$name.pem"
  say "made $dir/$name.pem"
}

# leaf NAME SUBJECT_ALT_NAMES EXTENDED_KEY_USAGE
leaf() {
  if [[ ! -f $dir/$1.pem ]]; then
    [[ -f $dir/ca.key ]] || die "$dir/ca.key is missing: no new certificate can be made under this CA"
    request "$1" "$1"
    certify "$1" "basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=$3
subjectAltName=$2
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid:always" -CA "$dir/ca.pem" -CAkey "$dir/ca.key"
  fi
  openssl verify -CAfile "$dir/ca.pem" "$dir/$1.pem" >"$temp/verify" 2>&1 || {
    cat "$temp/verify" >&2
    die "$dir/$1.pem is not valid under $dir/ca.pem; remove what is out of date, then run this again"
  }
}

if [[ ! -f $dir/ca.pem ]]; then
  request ca "Caselock development CA"
  certify ca "basicConstraints=critical,CA:TRUE,pathlen:0
keyUsage=critical,keyCertSign,cRLSign
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid:always" -signkey "$temp/ca.key"
fi
leaf server "DNS:localhost,IP:127.0.0.1${CASELOCK_CA_NAMES:+,$CASELOCK_CA_NAMES},URI:spiffe://caselock.test/service/gateway" serverAuth
for bureau; do
  case $bureau in
    operator:*) leaf "operator-${bureau#*:}" "URI:spiffe://caselock.test/operator/${bureau#*:}" clientAuth ;;
    *) leaf "$bureau" "URI:spiffe://caselock.test/bureau/$bureau" clientAuth ;;
  esac
done

if [[ ! -f $dir/receipt-key.pem ]]; then
  openssl genpkey -algorithm ed25519 -out "$temp/receipt-key.pem"
  mv -- "$temp/receipt-key.pem" "$dir/receipt-key.pem"
  say "made $dir/receipt-key.pem"
fi
if [[ ! -f $dir/receipt-key.pub.pem ]]; then
  openssl pkey -in "$dir/receipt-key.pem" -pubout -out "$temp/receipt-key.pub.pem"
  chmod 644 "$temp/receipt-key.pub.pem"
  mv -- "$temp/receipt-key.pub.pem" "$dir/receipt-key.pub.pem"
fi
