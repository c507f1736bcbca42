# shellcheck shell=bash disable=SC2154
# Every plugin of upstream's archive.
module=github.com/containernetworking/plugins
source=$(go_source "$module@$version")
go_require "$module@$version"
plugins=()
for folder in "$source"/plugins/{main,ipam,meta}/*/; do
  if [[ $folder != */windows/ ]]; then plugins+=("$module${folder#"$source"}"); fi
done
go_build -ldflags "-s -w -X $module/pkg/utils/buildversion.BuildVersion=$version" "${plugins[@]%/}"
