//! What is run on a host to look for objects, and to take one in.

/// Arguments: hash and length of each object. Says `whole` or `part N` of each.
pub(super) const LOOK: &str = r#"
while [ $# -ge 2 ]; do
  f=$cache/objects/$1; most=0
  if [ -f "$f" ] && [ "$(length "$f")" -eq "$2" ]; then echo whole
  else
    for part in "$f".*part; do
      [ -f "$part" ] && n=$(length "$part") && [ "$n" -gt "$most" ] && most=$n
    done
    echo "part $most"
  fi
  shift 2
done
"#;

/// Arguments: hash, length, mode of the file, sender, and whether it may be `packed`. Says `wait N` while
/// another one sends, then `whole`, `unwritable WHY`, or `small N` when N bytes are missing on the disk, or
/// `from N`, with `gzip` or `plain`. After that it reads the file from there on, packed so, says `at N` each
/// second, then `checking`, and `ok`, `small N`, `bad`, or `no sha256sum`.
pub(super) const SEND: &str = r#"
f=$cache/objects/$1 need=$2 node=$(mark) how=plain teller=''
unwritable() { echo "unwritable ${1##*: }"; exit 0; }
whole() { [ -f "$f" ] && [ "$(length "$f")" -eq "$need" ]; }
find_part() {
  best='' most=0
  for part in "$f".*part; do
    [ -f "$part" ] && n=$(length "$part") && [ "$n" -gt "$most" ] && most=$n best=$part
  done
}
alive() { grep -q dsgd-sh "/proc/$pid/cmdline" 2>/dev/null; }
unlock() { read -r pid rest 2>/dev/null <"$f.lock/by" && [ "$pid" = $$ ] && rm -rf "$f.lock"; }
said=$(mkdir -p "$cache/objects" 2>&1) || unwritable "$said"
still=0 last=-1
until mkdir "$f.lock" 2>/dev/null; do
  if [ ! -d "$f.lock" ]; then
    said=$(mkdir "$f.lock" 2>&1) && break
    [ -d "$f.lock" ] || unwritable "$said"
  fi
  whole && echo whole && exit 0
  pid='' who='' where=''
  read -r pid who where 2>/dev/null <"$f.lock/by"
  find_part
  if [ "$most" -eq "$last" ]; then still=$((still + 1)); else still=0 last=$most; fi
  gone=''
  if [ $still -ge 20 ] || [ "$who" = "$4" ]; then gone=1
  elif [ -n "$pid" ] && [ "$where" = "$node" ] && ! alive; then gone=1; fi
  if [ -n "$gone" ]; then
    [ -n "$pid" ] && [ "$where" = "$node" ] && alive && kill -9 -- "-$pid" 2>/dev/null
    mv "$f.lock" "$f.lock.$$" 2>/dev/null && rm -rf "$f.lock.$$"
    still=0
  else
    echo "wait $most"
    sleep 1
  fi
done
trap 'kill -9 $teller 2>/dev/null; unlock' EXIT
trap "exit 1" HUP INT TERM PIPE
echo "$$ $4 $node" >"$f.lock/by"
whole && echo whole && exit 0
find_part
mine=$f.$node.$$.part
if [ "$most" -gt 0 ] && [ "$most" -le "$need" ]; then mv "$best" "$mine"; else most=0; fi
for part in "$f" "$f".*part; do [ "$part" = "$mine" ] || rm -f "$part"; done
room=$(($(free_kib "$cache/objects") * 1024)) left=$((need - most))
if [ "$room" -lt "$left" ]; then echo "small $((left - room))"; exit 0; fi
unpack() { cat; }
for gzip in gzip "busybox gzip"; do
  if [ "$5" = packed ] && [ "$(echo x | $gzip -c 2>/dev/null | $gzip -dc 2>/dev/null)" = x ]; then
    how=gzip
    unpack() { $gzip -dc; }
    break
  fi
done
tell() {
  trap - EXIT HUP INT TERM PIPE
  while sleep 1 >/dev/null 2>&1 </dev/null && kill -0 $$ 2>/dev/null; do echo "at $(length "$mine")"; done
}
echo "from $most $how"
tell &
teller=$!
unpack >>"$mine"
status=$? got=$(length "$mine")
# A gentler signal is lost where the shell that was forked a moment ago has not taken its parent's traps away yet.
kill -9 $teller 2>/dev/null
wait $teller 2>/dev/null
teller=''
if [ "$got" -lt "$need" ]; then
  room=$(($(free_kib "$cache/objects") * 1024))
  if [ $status -ne 0 ] && { [ $how = plain ] || [ "$room" -lt $((need - got)) ]; }; then
    echo "small $((need - got))"
  elif [ $how = gzip ]; then echo bad; fi
  exit 0
fi
echo checking
sum=$({ sha256sum "$mine" || shasum -a 256 "$mine" || openssl dgst -sha256 -r "$mine"; } 2>/dev/null | cut -c 1-64)
if [ -z "$sum" ]; then echo "no sha256sum"; exit 0; fi
if [ "$sum" != "$1" ]; then rm -f "$mine"; echo bad; exit 0; fi
chmod "$3" "$mine" && sync "$mine" 2>/dev/null
mv -f "$mine" "$f" && { unlock; echo ok; }
"#;
