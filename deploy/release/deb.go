package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
)

const maintainer = "rdpbroker maintainers <maintainers@rdpbroker.example>"

const description = `connection broker for Windows terminal servers and xrdp
 A proxy in front of RDP hosts. It sends users back to their own disconnected
 session, gives them a free slot, or makes room by logging off the session that
 has been disconnected longest, as far as policy allows, so that nobody meets a
 full host.`

// deb makes the Debian package for t. It starts nothing by itself: there is no
// configuration yet that would fit anybody's hosts.
func (r *release) deb(t target, broker string, man []file) error {
	changelog, err := r.zipped("changelog", fmt.Sprintf("rdpbroker (%s) unstable; urgency=medium\n\n  * Built from the upstream sources; their history is the list of changes.\n\n -- %s  %s\n",
		r.version, maintainer, r.at.Format(time.RFC1123Z)))
	if err != nil {
		return err
	}
	copyright, err := r.written("copyright", fmt.Sprintf("Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: rdpbroker\n\nFiles: *\nCopyright: %d rdpbroker maintainers\nLicense: Apache-2.0\n On Debian systems the full text is in /usr/share/common-licenses/Apache-2.0.\n", r.at.Year()))
	if err != nil {
		return err
	}
	overrides, err := r.written("lintian", lintianOverrides)
	if err != nil {
		return err
	}
	contents := files.Contents{
		{Source: broker, Destination: "/usr/bin/rdpbroker", FileInfo: &files.ContentFileInfo{Mode: 0o755}},
		{Source: r.source("deploy/systemd/rdpbroker.service"), Destination: "/usr/lib/systemd/system/rdpbroker.service"},
		{Source: r.source("deploy/systemd/rdpbroker.sysusers"), Destination: "/usr/lib/sysusers.d/rdpbroker.conf"},
		{Source: r.source("broker.yaml"), Destination: "/usr/share/doc/rdpbroker/examples/broker.yaml"},
		{Source: r.source("README.md"), Destination: "/usr/share/doc/rdpbroker/README.md"},
		{Source: r.source("deploy/windows/prepare-host.ps1"), Destination: "/usr/share/rdpbroker/prepare-host.ps1"},
		{Source: changelog, Destination: "/usr/share/doc/rdpbroker/changelog.gz"},
		{Source: copyright, Destination: "/usr/share/doc/rdpbroker/copyright"},
		{Source: overrides, Destination: "/usr/share/lintian/overrides/rdpbroker"},
		{Destination: "/etc/rdpbroker", Type: files.TypeDir, FileInfo: &files.ContentFileInfo{Mode: 0o750}},
	}
	for _, m := range man {
		page, err := os.ReadFile(m.from)
		if err != nil {
			return err
		}
		zipped, err := r.zipped(m.name, string(page))
		if err != nil {
			return err
		}
		section := filepath.Ext(m.name)[1:]
		contents = append(contents, &files.Content{Source: zipped, Destination: "/usr/share/man/man" + section + "/" + path.Base(m.name) + ".gz"})
	}
	for _, c := range contents {
		if c.FileInfo == nil {
			c.FileInfo = &files.ContentFileInfo{Mode: 0o644}
		}
		c.FileInfo.MTime = r.at
	}
	info := nfpm.WithDefaults(&nfpm.Info{
		Name: "rdpbroker", Arch: t.arch, Platform: t.os, Version: r.version, VersionSchema: "none",
		Section: "net", Priority: "optional", Maintainer: maintainer, Description: description,
		Homepage: "https://github.com/rdpbroker/rdpbroker", MTime: r.at,
		DisableGlobbing: true,
		Overridables: nfpm.Overridables{
			Contents:   contents,
			Recommends: []string{"ca-certificates", "systemd"},
			Scripts: nfpm.Scripts{
				PostInstall: r.source("deploy/debian/postinst"),
				PreRemove:   r.source("deploy/debian/prerm"),
				PostRemove:  r.source("deploy/debian/postrm"),
			},
			Deb: nfpm.Deb{Compression: "xz"},
		},
	})
	return r.create(fmt.Sprintf("rdpbroker_%s_%s.deb", r.version, t.arch), func(w io.Writer) error {
		return deb.Default.Package(info, w)
	})
}

const lintianOverrides = `# A Go program is linked by itself, with what it needs.
rdpbroker: statically-linked-binary [usr/bin/rdpbroker]
# The package is built from upstream's own sources; no bug asks for it.
rdpbroker: initial-upload-closes-no-bugs
# What the operator is told to type.
rdpbroker: maintainer-script-calls-systemctl [postinst:25]
# Passwords of hosts lie there.
rdpbroker: non-standard-dir-perm 0750 != 0755 [etc/rdpbroker/]
`

// written puts text into a file of the given name and returns where it is.
func (r *release) written(name, text string) (string, error) {
	to := filepath.Join(r.work, "deb", filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return "", err
	}
	return to, os.WriteFile(to, []byte(text), 0o644)
}

// zipped is written, compressed as Debian wants documents.
func (r *release) zipped(name, text string) (string, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return "", err
	}
	if _, err := io.WriteString(z, text); err != nil {
		return "", err
	}
	if err := z.Close(); err != nil {
		return "", err
	}
	return r.written(name+".gz", b.String())
}
