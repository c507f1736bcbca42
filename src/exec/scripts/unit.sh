# unit.sh start|restart|disable UNIT [REVISION]: and, with a revision, wait until the process runs with it.
verb=$1 unit=$2 revision=${3-}
if [ "$verb" = disable ]; then systemctl daemon-reload; systemctl disable --now "$unit" 2>&1; exit; fi
# Once for both: systemd asks all of its generators each time.
systemctl -q --no-reload enable "$unit" && systemctl daemon-reload || exit 1
systemctl reset-failed "$unit" 2>/dev/null
systemctl restart "$unit" || { journalctl -u "$unit" -n 8 --no-pager -o cat >&2; exit 1; }
[ -n "$revision" ] || exit 0
# A timer has no process; what is loaded is what its files say.
case $unit in *.timer) exit 0 ;; esac
for _ in $(seq 200); do
  pid=$(systemctl show --value -p MainPID "$unit")
  tr '\0' '\n' 2>/dev/null < "/proc/$pid/environ" | grep -qx "RSADM_REVISION=$revision" && exit 0
  sleep 0.05
done
echo "$unit did not start with its new files" >&2; journalctl -u "$unit" -n 8 --no-pager -o cat >&2; exit 1
