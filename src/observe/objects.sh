# What `get` shall tell of objects: which they are, and the fields that are ours (gather.rs).
OBJECTS='{{define "o"}}{{.apiVersion}} {{.kind}} {{or .metadata.namespace "-"}} {{.metadata.name}} {{.metadata.uid}} {{range .metadata.managedFields}}{{if eq .manager "rsadm"}}{{.fieldsV1}}{{end}}{{end}}{{"\n"}}{{end}}{{if eq .kind "List"}}{{range .items}}{{template "o" .}}{{end}}{{else}}{{template "o" .}}{{end}}'
sum_of() { sort | sha256sum | cut -c1-16; }
