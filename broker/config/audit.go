package config

// audit is what the keys of audit: say.
func (b *builder) audit() Audit {
	k := b.keys.Audit
	r := k.Rotate
	return Audit{
		File:   b.file("audit.file", k.File),
		Rotate: Rotate{Size: int64(r.Size), Age: r.Age, Keep: r.Keep, Files: r.Files, Compress: r.Compress},
	}
}
