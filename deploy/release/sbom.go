package main

import (
	"debug/buildinfo"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// sbom writes what a program was built from, as its own build information tells.
func (r *release) sbom(t target, path, program, licence string) error {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return err
	}
	self := fmt.Sprintf("pkg:golang/%s@%s?goos=%s&goarch=%s#broker/cmd/%s", info.Main.Path, url.QueryEscape(r.version), t.os, t.arch, program)
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{
		Timestamp: r.at.Format(time.RFC3339),
		Component: &cdx.Component{
			BOMRef: self, Type: cdx.ComponentTypeApplication, Name: program, Version: r.version, PackageURL: self,
			Licenses: &cdx.Licenses{{License: &cdx.License{ID: licence}}},
		},
	}
	goVersion := strings.TrimPrefix(info.GoVersion, "go")
	components := []cdx.Component{{
		BOMRef: "pkg:golang/std@" + goVersion, Type: cdx.ComponentTypeLibrary,
		Name: "std", Version: goVersion, PackageURL: "pkg:golang/std@" + goVersion,
	}}
	uses := []string{components[0].BOMRef}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		purl := fmt.Sprintf("pkg:golang/%s@%s", m.Path, url.QueryEscape(m.Version))
		components = append(components, cdx.Component{
			BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, PackageURL: purl,
			Properties: &[]cdx.Property{{Name: "go.sum", Value: m.Sum}},
		})
		uses = append(uses, purl)
	}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: self, Dependencies: &uses}}
	name := fmt.Sprintf("%s_%s_%s_%s.cdx.json", program, r.version, t.os, t.arch)
	return r.create(name, func(w io.Writer) error {
		return cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
	})
}
