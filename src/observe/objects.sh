# What `get` shall tell of objects: which they are, and the fields that are ours (gather.rs).
OBJECTS='{{define "o"}}{{.apiVersion}} {{.kind}} {{or .metadata.namespace "-"}} {{.metadata.name}} {{.metadata.uid}} {{range .metadata.managedFields}}{{if eq .manager "rsadm"}}{{.fieldsV1}}{{end}}{{end}}{{"\n"}}{{end}}{{if eq .kind "List"}}{{range .items}}{{template "o" .}}{{end}}{{else}}{{template "o" .}}{{end}}'
# Of CoreDNS, the kinds of which a field that operators set by hand is not ours any more.
edited() { awk '$4=="coredns"&&($2=="Deployment"&&!/f:replicas/||$2=="ConfigMap"&&!/f:Corefile/){print "edited",$2}'; }
sum_of() { sort | sha256sum | cut -c1-16; }
