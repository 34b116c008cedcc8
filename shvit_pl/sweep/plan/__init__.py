"""What a sweep file asks for, checked."""
