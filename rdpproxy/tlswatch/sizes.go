package tlswatch

// sizes tells the plain size of a protected record from its length: at least low
// and at most high bytes. ok is false for a length that the suite cannot make.
type sizes func(length int) (low, high int, ok bool)

// aead are suites that add the same to every record.
func aead(overhead int) sizes {
	return func(length int) (low, high int, ok bool) {
		n := length - overhead
		return n, n, n >= 0
	}
}

// cbcSHA1 is AES in CBC mode with SHA-1, RFC 5246 6.2.3.2: an IV of 16 bytes, and
// content, a MAC of 20 bytes and at least one byte of padding in blocks of 16. More
// padding than needed makes a record look larger than it is, never smaller.
func cbcSHA1(length int) (low, high int, ok bool) {
	const iv, block, mac, padding = 16, 16, 20, 1
	if length%block != 0 || length < iv+2*block {
		return 0, 0, false
	}
	high = length - iv - mac - padding
	return max(0, high-block+1), high, true
}

// sizesOf is how sizes change under a suite, nil if that is not known or does not
// tell what has to be told apart: with SHA-256 or SHA-384 in CBC mode an error
// TSRequest of 15 bytes looks like the records that are looked for.
func sizesOf(version, suite int) sizes {
	if version == tls13 {
		switch suite {
		case 0x1301, 0x1302, 0x1303: // AES-GCM, ChaCha20-Poly1305: a tag, and the type of the content
			return aead(16 + 1)
		}
		return nil
	}
	switch suite {
	case 0x009c, 0x009d, 0x009e, 0x009f, 0xc02b, 0xc02c, 0xc02f, 0xc030: // AES-GCM: half a nonce, a tag
		return aead(8 + 16)
	case 0xcca8, 0xcca9, 0xccaa: // ChaCha20-Poly1305
		return aead(16)
	case 0x002f, 0x0035, 0x0033, 0x0039, 0xc009, 0xc00a, 0xc013, 0xc014: // AES-CBC with SHA-1
		return cbcSHA1
	}
	return nil
}
