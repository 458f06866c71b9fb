//! The words that random VM names are made of: short, friendly, and valid in a host name.

/// First words.
pub(crate) const ADJECTIVES: [&str; 110] = [
    "able", "agile", "airy", "alert", "amber", "ample", "aqua", "azure", "blithe", "bold", "brave", "breezy", "bright",
    "brisk", "calm", "candid", "careful", "cheery", "civil", "clear", "clever", "cloudy", "coral", "cosy", "crimson",
    "crisp", "curious", "dapper", "daring", "dewy", "eager", "early", "earnest", "easy", "elated", "fair", "fancy",
    "fearless", "fine", "fleet", "fond", "frank", "fresh", "frosty", "gentle", "glad", "gleaming", "golden",
    "graceful", "grand", "happy", "hardy", "hazel", "hearty", "honest", "humble", "indigo", "ivory", "jade", "jolly",
    "jovial", "keen", "kind", "lively", "loyal", "lucid", "lunar", "mellow", "merry", "mild", "misty", "modest",
    "neat", "nimble", "noble", "olive", "patient", "placid", "polite", "proud", "quick", "quiet", "rapid", "ready",
    "rosy", "royal", "rustic", "sandy", "scarlet", "serene", "shiny", "silent", "silver", "sleek", "snowy", "solar",
    "solid", "spry", "stellar", "sunny", "swift", "tidy", "tranquil", "upbeat", "velvet", "vivid", "warm", "wise",
    "witty", "zesty",
];

/// Second words.
pub(crate) const NOUNS: [&str; 112] = [
    "acorn", "alder", "anchor", "aspen", "aurora", "badger", "bamboo", "bay", "beacon", "birch", "bison", "breeze",
    "brook", "canyon", "cedar", "cherry", "cliff", "clover", "comet", "cove", "crane", "creek", "cypress", "dawn",
    "delta", "dune", "eagle", "ember", "falcon", "fern", "field", "finch", "fjord", "flame", "forest", "fox", "garden",
    "geyser", "glacier", "glade", "grove", "gull", "harbor", "hare", "hawk", "hazelnut", "heron", "hill", "ibis",
    "island", "ivy", "jay", "juniper", "kestrel", "lagoon", "lake", "lark", "laurel", "leaf", "lichen", "lily",
    "linden", "lotus", "lynx", "maple", "marsh", "meadow", "mesa", "meteor", "moon", "moss", "nebula", "oak", "ocean",
    "orchid", "osprey", "otter", "owl", "pebble", "pine", "plain", "planet", "pond", "poplar", "prairie", "quartz",
    "rain", "raven", "reef", "ridge", "river", "robin", "sage", "seal", "shore", "sky", "sparrow", "spring", "spruce",
    "star", "stone", "stream", "summit", "swan", "thicket", "thistle", "tide", "tulip", "valley", "wave", "willow",
    "wren",
];
