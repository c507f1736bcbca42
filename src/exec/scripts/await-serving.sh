# await-serving.sh NAME PORT SECONDS: until the process that the manifest of that name asks for listens on its port, as it
# does once it has taken its arguments. Given up at once where they are wrong. (After pods.sh.)
end=$((SECONDS+$3)) turn=0
revision=$(revision_in "$(manifest_of "$1")")
while [ $SECONDS -lt $end ]; do
  runs "$1" "$revision" && ss -Hltnp "sport = :$2" | grep -q "pid=$pid," && exit 0
  ((++turn % 10)) || ! stumbled "$1" 2 || { echo "$said" >&2; exit 1; }
  sleep 0.1
done
echo "$1 does not listen on port $2 after $3 s" >&2
exit 1
