"""What everything stands on: errors, files, sealed records, native code, random bits, tables. Knows no network."""
