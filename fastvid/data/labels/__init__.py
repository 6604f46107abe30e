"""What tables, lists and folder names say of videos."""
