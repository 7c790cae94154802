//! All that an anemll plugin author needs: the five stage traits, the manifest, the exporting macro.
