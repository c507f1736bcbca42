# lock.sh HOLDER: an flock that lives as long as the shell of this connection (the parent of the `timeout` that runs this).
# Its file goes with it; so whoever gets the lock makes sure that it is still that of the file. Status 75: somebody has it.
shell=$(awk '{print $4}' "/proc/$PPID/stat") || exit 1
lock=/run/rsadm-lock/lock
# Who lets go removes file and folder, maybe between two of our steps: then once more.
take() { mkdir -p "${lock%/*}" && exec 9<>$lock && flock -n 9 && [ /proc/self/fd/9 -ef $lock ]; }
# The shell that this run had before, where the network took it away and sshd here has not noticed: it makes room.
replace() {
  local holder pid
  { read -r holder && read -r pid; } <$lock && [ "$holder" = "$1" ] || return
  case $(tr '\0' ' ' <"/proc/$pid/cmdline") in *' rsadm rsadm-'*) kill -9 "$pid" ;; esac
}
for _ in $(seq 30); do
  take 2>/dev/null && got=1 && break
  replace "$1" 2>/dev/null
  sleep 0.1
done
if [ ! "${got-}" ]; then
  mkdir -p "${lock%/*}" && : 8<>$lock && head -n 1 $lock && exit 75
  exit 1
fi
printf '%s\n' "$1" "$shell" > $lock
setsid bash -c 'while kill -0 "$1" 2>/dev/null; do sleep 0.5; done; rm -rf /run/rsadm-lock' rsadm-lock "$shell" </dev/null >/dev/null 2>&1 &
