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
# A kubelet that cannot use its flags or its configuration runs for a moment, again and again.
serves() {
  [ "$unit" = kubelet ] || return 0
  (exec 3<>"/dev/tcp/127.0.0.1/$port" && printf 'GET /healthz HTTP/1.0\r\n\r\n' >&3 && timeout 5 grep -q '^HTTP[^ ]* 200' <&3) 2>/dev/null
}
port=$(sed -n 's/^healthzPort: *//p' /var/lib/kubelet/config.yaml 2>/dev/null)
seen=' ' ends=0 end=$((SECONDS+90))
while [ $SECONDS -lt $end ]; do
  pid=$(systemctl show --value -p MainPID "$unit")
  case $seen in *" $pid "*) ;; *) seen+="$pid " ends=$((ends+1)) ;; esac
  if tr '\0' '\n' 2>/dev/null < "/proc/$pid/environ" | grep -qx "RSADM_REVISION=$revision"; then
    while [ -d "/proc/$pid" ] && [ $SECONDS -lt $end ]; do
      ! serves || exit 0
      sleep 0.1
    done
  fi
  # Between two processes there is none, which is seen as 0.
  [ $ends -lt 5 ] || break
  sleep 0.05
done
# Its own words, and not those of systemd that starts it anew.
echo "$unit does not run with its new files" >&2; journalctl _SYSTEMD_UNIT="$unit.service" -n 8 --no-pager -o cat >&2; exit 1
