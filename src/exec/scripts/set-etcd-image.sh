# set-etcd-image.sh VERSION PORT SECONDS [OLD NEW]…: changes lines of etcd's manifest (NEW instead of OLD, or nothing), its image
# first, leaves all else as it is, and waits until the member says that it runs this version. The old manifest comes back where it
# does not, also the one that a run before kept and was killed. (After processes.sh and pods.sh.)
version=${1#v} port=$2 limit=$3 end=$((SECONDS+$3)) manifest=$(manifest_of etcd) kept=/etc/kubernetes/rsadm-etcd.yaml turn=0 begun=$(date +%s)
# The sum of the manifest that was written when the other one was kept.
written_then=/etc/kubernetes/rsadm-etcd.sum
shift 3

# edited FILE [OLD NEW]…: its text with other lines; notes behind them stay. Fails where it has not each OLD on a line, and names
# that: facts.sh reads a value on its own line, too, and one flag may stand in for another.
edited() {
  awk 'BEGIN {for (i = 2; i < ARGC; i += 2) {old[++n] = ARGV[i]; new[ARGV[i]] = ARGV[i + 1]; ARGV[i] = ARGV[i + 1] = ""}}
    {line = $0; sub(/^ *(- )?/, "", line); lead = substr($0, 1, length($0) - length(line))
      note = match(line, /[ \t]+(#.*)?$/) ? substr(line, RSTART) : ""; gsub(/["'\'']|[ \t]+(#.*)?$/, "", line)}
    !(line in new) {print; next}
    {seen[line]}
    new[line] == line {print; next}
    new[line] != "" {print lead new[line] note}
    END {for (i = 1; i <= n; i++) if (!(old[i] in seen)) {print old[i] > "/dev/stderr"; exit 1}}' "$@"
}

# served: the version that the member tells where its metrics are, which it opens once it has taken its data.
served() {
  { exec 3<>"/dev/tcp/127.0.0.1/$port" && printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3 &&
    timeout 5 sed -n 's/^etcd_server_version{server_version="\([^"]*\)".*/\1/p' <&3; } 2>/dev/null
}

# serves_again: what served before does, where that is known; else another version than the new one.
serves_again() {
  local now
  now=$(served)
  [ "$now" = "$was" ] || { [ "$was" = unknown ] && [ -n "$now" ] && [ "$now" != "$version" ]; }
}

# counts: what was kept is from before the manifest that is there. Else somebody has written another one since.
counts() { [ -e $kept ] && [ "$(sha256sum <"$manifest")" = "$(cat $written_then 2>/dev/null)" ]; }

# Under names of this process, since one whose connection was lost may still be at the same; what killed ones left goes.
for old in $kept.*; do pid=${old#"$kept."}; [ -e "/proc/${pid%.new}" ] || rm -f "$old"; done
old=$kept.$$ was='' written=''
cp -p "$manifest" $old || exit 1
if ! lacks=$(edited $old "$@" 2>&1 > $old.new); then
  rm -f $old $old.new
  case $lacks in
  --*) echo "$manifest does not have $lacks on one line: write it there so, and run the same command again" >&2 ;;
  *) echo "$manifest has no $lacks" >&2 ;;
  esac
  exit 1
fi
if cmp -s $old $old.new; then
  # A run before this one wrote it: what that kept is the way back of both.
  rm -f $old $old.new
  ! counts || { was=unknown written=$(stat -c '%i %Y' "$manifest"); }
else
  was=$(served)
  # What never served is nothing to go back to.
  if [ -z "$was" ] && counts; then rm -f $old; else sync $old && mv -f $old $kept || exit 1; fi
  chmod 600 $old.new && sync $old.new && sha256sum <$old.new >$written_then &&
    written=$(stat -c '%i %Y' $old.new) && mv -f $old.new "$manifest" || exit 1
fi
said='' late=''
while :; do
  [ "$(served)" != "$version" ] || { rm -f $kept $written_then; exit 0; }
  # It may have come up since it was asked before: the last look begins once the time is over.
  [ -z "$late" ] || break
  [ $SECONDS -lt $end ] || late=1
  if ((++turn % 10 == 0)); then ! stumbled etcd 2 && ! lost_data "$begun" || break; fi
  sleep 0.2
done
said=${said:-"etcd does not run as $version after $limit s"}
# It was written by hand, or nothing is left of who wrote it: there is none to go back to.
[ "$written" ] || { echo "$said" >&2; exit 1; }
# Who has written it since then looks after it.
if [ "$(stat -c '%i %Y' "$manifest")" != "$written" ]; then
  [ ! -e $kept ] || said+="; the one from before is $kept"
  echo "$said; its manifest was changed meanwhile" >&2
  exit 1
fi
mv -f $kept "$manifest" && rm -f $written_then || exit 1
end=$((SECONDS+limit))
while [ -n "$was" ] && ! serves_again; do
  [ $SECONDS -lt $end ] || { echo "$said; it does not serve again yet, although its manifest from before was put back" >&2; exit 1; }
  sleep 0.2
done
echo "$said; etcd has its manifest from before again${was:+, and serves}" >&2
exit 1
